-- The only script for wrk. Its parameters come in the environment, which no process list shows.
-- `done` prints one line of JSON for tests/bench/load/wrk.py.

local kind = os.getenv("LOAD_KIND")
local run = os.getenv("LOAD_RUN")
local leads = tonumber(os.getenv("LOAD_LEADS"))
local think_ms = tonumber(os.getenv("LOAD_THINK_MS"))
local auth = "Bearer " .. os.getenv("LOAD_KEY")
local count = 0
local paths = {}

for path in os.getenv("LOAD_PATHS"):gmatch("%S+") do
   paths[#paths + 1] = path
end

-- tests/bench/fill.py gives lead n this id.
local function make_path()
   return string.format("/v1/leads/lead_01J%023d", math.random(leads))
end

local reading = { ["Authorization"] = auth }
local writing = { ["Authorization"] = auth, ["Content-Type"] = "application/json" }
local body = '{"email":"james.%s.%d@acme-corp.com","name":"James Rodriguez","company":"TechStart",'
   .. '"title":"CTO","phone":"+1-555-0198","source":"form","tags":["inbound","startup"],'
   .. '"customFields":{"industry":"FinTech","teamSize":"10-25","budget":"$5k-$10k/mo"}}'

local make = {
   get = function()
      return wrk.format("GET", make_path(), reading)
   end,
   paths = function()
      return wrk.format("GET", paths[math.random(#paths)], reading)
   end,
   patch = function()
      writing["Idempotency-Key"] = run .. "-" .. count
      return wrk.format("PATCH", make_path(), writing, '{"title":"Director ' .. count .. '"}')
   end,
   post = function()
      writing["Idempotency-Key"] = run .. "-" .. count
      return wrk.format("POST", "/v1/leads", writing, string.format(body, run, count))
   end,
}

function init()
   math.randomseed(tonumber(run, 16))
   request = make[kind]
   local make_request = request
   request = function()
      count = count + 1
      return make_request()
   end
end

-- Pauses are exponential, so that requests arrive as from many independent clients. wrk's latencies
-- do not include the pauses.
if think_ms > 0 then
   function delay()
      return -think_ms * math.log(1 - math.random())
   end
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      'RESULT {"requests":%d,"duration_us":%d,"failures":%d,"p50_us":%d,"p90_us":%d,'
         .. '"p99_us":%d,"max_us":%d}\n',
      summary.requests, summary.duration,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end

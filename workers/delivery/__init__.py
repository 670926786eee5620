"""Parts of the dispatcher: claims, lanes, connections, requests, retries and settlements."""

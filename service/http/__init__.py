"""HTTP: the server's protocol, the middleware, and the path of a request through a handler."""

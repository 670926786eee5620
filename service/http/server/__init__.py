"""From the socket to one request and its response: HTTP/1.1 on a connection."""

"""From the socket to a handler and back: the protocol, the edge, a call, its reply."""

"""`leadlog demo`: sends realistic leads over HTTP, then checks that none was lost or repeated."""

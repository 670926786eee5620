"""`leadlog dev`: embedded servers, the API and the workers, restarted whenever one ends."""

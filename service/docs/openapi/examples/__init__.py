"""Examples for the API's description: for each operation a call, and each of its refusals."""

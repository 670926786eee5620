"""The CRM streams in Redis as the publisher writes, rebuilds and bounds them."""

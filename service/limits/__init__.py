"""How much each API key may ask for: plans, their limits, and who counts."""

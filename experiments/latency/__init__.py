"""Latency of networks: measured whole, or predicted from a table of blocks."""

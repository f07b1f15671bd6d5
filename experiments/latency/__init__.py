"""How long networks take to answer: measured whole, or looked up part by part."""

"""How a network is found: objective, samplers, studies, executors."""

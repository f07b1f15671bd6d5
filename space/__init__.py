"""What a network is: architectures as data, choices, closed-form cost.

Torch stays in `blocks` and `network`.
"""

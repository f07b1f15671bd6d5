"""What a network is: architectures as data, choices, closed-form cost. Torch only in `blocks` and `network`."""

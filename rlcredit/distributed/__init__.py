"""Several processes as one run: who does what, what they exchange, who starts and watches them."""

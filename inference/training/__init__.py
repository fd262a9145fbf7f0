"""How the built-in model is made: simulated patients, the training loop, and the evaluation of both."""

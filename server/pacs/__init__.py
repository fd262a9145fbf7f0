"""Picture archives: studies fetched from them, results sent back."""

"""Who does it: workers, their sessions, and the way of a job to one of them."""

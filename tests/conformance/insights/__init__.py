"""What PostHog's insight queries ask, said in our specifications; one module per kind of insight."""

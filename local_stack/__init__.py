"""The embedded default: broker, traffic, loader, and the command that starts and mends it all."""

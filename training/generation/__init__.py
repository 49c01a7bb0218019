"""What trained generators draw: single images, mixtures, sweeps and walks."""

"""A laboratory of sequence VAEs. It knows nothing of sweeps: text_vae.train is the way in."""

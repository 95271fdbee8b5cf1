"""The embedded scenes: rendered with physics, deterministic by seed, nothing to download."""

"""The methods under comparison: one file each. `METHODS` maps a name to `module:class` and imports nothing."""

METHODS: dict[str, str] = {
    "frozen": "methods.frozen:Frozen",
    "lora": "methods.lora:Lora",
    "rein": "methods.rein:Rein",
    "spectralmoe": "methods.spectralmoe:SpectralMoE",
    "depth_add": "methods.depth_add:DepthAdd",
}

OPTIONS: dict[str, str] = {
    "frozen": "methods.options:FrozenOptions",
    "lora": "methods.options:LoraOptions",
    "rein": "methods.options:ReinOptions",
    "spectralmoe": "methods.options:SpectralMoEOptions",
    "depth_add": "methods.options:DepthAddOptions",
}
"""Where the options of each method stand, torch-free: planning and listing need no more."""

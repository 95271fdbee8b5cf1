"""The methods under comparison: one file each. `METHODS` maps a name to `module:class` and imports nothing."""

METHODS: dict[str, str] = {
    "frozen": "methods.frozen:Frozen",
    "lora": "methods.lora:Lora",
    "adaptformer": "methods.adaptformer:AdaptFormer",
    "vpt": "methods.vpt:Vpt",
    "rein": "methods.rein:Rein",
    "set": "methods.set:Set",
    "fada": "methods.fada:Fada",
    "depthforge": "methods.depthforge:DepthForge",
    "earth_adapter": "methods.earth_adapter:EarthAdapter",
    "spectralmoe": "methods.spectralmoe:SpectralMoE",
    "depth_add": "methods.depth_add:DepthAdd",
    "full": "methods.full:Full",
}

OPTIONS: dict[str, str] = {
    "frozen": "methods.options:FrozenOptions",
    "lora": "methods.options:LoraOptions",
    "adaptformer": "methods.options:AdaptFormerOptions",
    "vpt": "methods.options:VptOptions",
    "rein": "methods.options:ReinOptions",
    "set": "methods.options:SetOptions",
    "fada": "methods.options:FadaOptions",
    "depthforge": "methods.options:DepthForgeOptions",
    "earth_adapter": "methods.options:EarthAdapterOptions",
    "spectralmoe": "methods.options:SpectralMoEOptions",
    "depth_add": "methods.options:DepthAddOptions",
    "full": "methods.options:FullOptions",
}
"""Where the options of each method stand, torch-free: planning and listing need no more."""

OWN: tuple[str, ...] = tuple(METHODS)
"""The methods with a file of their own; the tuners of HuggingFace's library take part only where they are named."""

_PEFT = (
    *("dora", "rslora", "adalora", "oft", "boft", "ia3", "ln_tuning", "hra", "miss"),
    *("loha", "lokr", "vera", "hira", "delora", "randlora"),
    # untested
    *("beft", "c3a", "deft", "fourierft", "gralora", "peanut", "psoft", "pvera", "road"),
    *("supertuning", "tinylora", "unilora", "vblora", "waveft"),
)
METHODS |= {f"peft:{name}": f"methods.hf_peft:{name}" for name in _PEFT}
OPTIONS |= {f"peft:{name}": f"methods.options.peft:{name}" for name in _PEFT}

_PROMPTS = "it needs the configuration of a language model; `vpt` is prompt tuning for image encoders"
_DECOMPOSED = "it starts from a decomposition of the real weights, so that it cannot be counted at the paper's sizes"
_REBASED = "it changes the frozen weights when it is built"
REFUSED: dict[str, str] = {
    **{f"peft:{name}": _PROMPTS for name in ("prompt_tuning", "multitask_prompt_tuning", "p_tuning", "prefix_tuning")},
    **{f"peft:{name}": _PROMPTS for name in ("cpt", "adaption_prompt", "cartridge", "xlora", "shadow")},
    **{f"peft:{name}": _DECOMPOSED for name in ("adamss", "frod")},
    **{f"peft:{name}": _REBASED for name in ("pissa", "olora")},
    "peft:shira": "it draws its sparse entries in a way that cannot be counted at the paper's sizes",
    "peft:glora": "it also trains biases, which the layers of some backbones lack",
    "peft:lily": "its router averages over the batch, so that the samples of a batch are mixed",
    "peft:osf": "it trains a full-rank remainder of every weight: take `full`",
    "peft:poly": "it needs a task identity with every batch",
    "peft:trainable_tokens": "it needs an embedding table",
    "peft:bone": "peft has replaced it by `peft:miss`",
    "peft:lora": "it is the method `lora`",
}
"""Names that a user may try, and why there is no such method."""

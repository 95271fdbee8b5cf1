"""The layouts of the paper's tables and figures (shared order of rows and columns: Tab. 1 to 7, Fig. 5 and 8)."""

from __future__ import annotations

from benchmarks.layouts import BASELINE, Column, Layout, Place, Row

MSI = {"fbp_cs": "Cross-sensor", "fbp_cr": "Cross-regional", "flair_cr": "FLAIR"}
RGB = {"loveda_r2u": "R2U", "potsdam2vaihingen": "P2V", "oem_cc": "Cross-continent"}
HSI = {"whu_ohs_cr": "Cross-regional"}
FAMILIES = {"Hyperspectral": HSI, "Multispectral": MSI, "RGB": RGB}
BACKBONES = {
    "clip": "CLIP-L",
    "sam": "SAM-H",
    "eva02": "EVA02-L",
    "dinov2": "DINOv2-L",
    "dinov3": "DINOv3-L",
    "dofa": "DOFA-L",
}
FOREIGN = {"softcon": "SoftCon", "galileo": "Galileo", "senpamae": "SenPa-MAE", "copernicus": "Copernicus-FM"}
"""Encoders of Tab. 2 that nobody here implements."""
METHODS = {
    "frozen": "Freeze",
    "lora": "LoRA",
    "adaptformer": "AdaptFormer",
    "vpt": "VPT",
    "set": "SET",
    "fada": "FADA",
    "rein": "REIN",
    "depthforge": "DepthForge",
    "spectralmoe": "SpectralMoE",
}
_PARAMETERS = Column(label="Params (M)", metric="parameters")
_AVERAGE = Column(label="Avg.", average=True)


def _tasks(*metrics: str, only_at_paper: bool = False) -> tuple[Column, ...]:
    """The three multispectral tasks, each with these metrics; at the mini scale perhaps the first alone."""
    names = {"miou": "mIoU", "macc": "mAcc"}
    return tuple(
        Column(
            group=title if len(metrics) > 1 else "",
            label=names[metric] if len(metrics) > 1 else title,
            place=Place(task=task),
            metric=metric,
            at="paper" if only_at_paper and task != "fbp_cs" else "",
        )
        for task, title in MSI.items()
        for metric in metrics
    )


_TAB1 = ("frozen", "set", "fada", "rein", "depthforge", "spectralmoe")
TABLE1 = Layout(
    name="table1",
    title="foundation models and fine-tuning methods on multispectral tasks (Tab. 1)",
    rows=tuple(
        Row(group=title, label=METHODS[method], place=Place(backbone=backbone, method=method), newcomers=True)
        for backbone, title in list(BACKBONES.items())[:4]
        for method in _TAB1
    ),
    columns=(_PARAMETERS, *_tasks("miou"), _AVERAGE),
    published=True,
)

_THREE_BANDS = (*MSI, *RGB)
TABLE2 = Layout(
    name="table2",
    title="the state of the art on all seven tasks; the methods on DINOv3, hyperspectral on DOFA (Tab. 2)",
    rows=(
        Row(group="DG", label="DSTC", place=Place(method="dstc"), published_only=True),
        *(
            Row(group="RSFM", label=title, place=Place(backbone=name, method=BASELINE), published_only=True)
            for name, title in FOREIGN.items()
        ),
        Row(group="RSFM", label=BACKBONES["dofa"], place=Place(backbone="dofa", method=BASELINE)),
        *(
            Row(group="VFM", label=title, place=Place(backbone=name, method=BASELINE), only=_THREE_BANDS)
            for name, title in list(BACKBONES.items())[:5]
        ),
        *(
            Row(
                group="PEFT",
                label=METHODS[method],
                place=Place(backbone="dinov3", method=method),
                elsewhere={"whu_ohs_cr": "dofa"},
                newcomers=True,
            )
            for method in _TAB1[1:]
        ),
    ),
    columns=tuple(
        Column(group=f"{family} {title}", label=label, place=Place(task=task), metric=metric)
        for family, tasks in FAMILIES.items()
        for task, title in tasks.items()
        for metric, label in (("miou", "mIoU"), ("macc", "mAcc"))
    ),
    published=True,
)

TABLE3 = Layout(
    name="table3",
    title="fine-tuning methods on a vision and a remote-sensing foundation model (Tab. 3)",
    rows=tuple(
        Row(group=title, label=label, place=Place(task=task, method=method), newcomers=True)
        for task, title in MSI.items()
        for method, label in METHODS.items()
    ),
    columns=(
        _PARAMETERS,
        *(
            Column(group=BACKBONES[backbone], label=label, place=Place(backbone=backbone), metric=metric)
            for backbone in ("dinov3", "dofa")
            for metric, label in (("miou", "mIoU"), ("macc", "mAcc"))
        ),
    ),
    published=True,
)


def _variants(rows: dict[str, tuple[str, dict[str, object]]], *backbones: str) -> tuple[Row, ...]:
    """Rows of SpectralMoE: published variant to label and options, on each backbone."""
    return tuple(
        Row(
            group=BACKBONES[backbone],
            label=label,
            place=Place(backbone=backbone, method="spectralmoe", options=options),
            printed=printed,
        )
        for backbone in backbones
        for printed, (label, options) in rows.items()
    )


TABLE4 = Layout(
    name="table4",
    title="components of SpectralMoE (Tab. 4)",
    rows=_variants(
        {
            "wo_moe": ("w/o MoE", {"variant": "without_moe"}),
            "wo_dual_gating": ("w/o dual gating", {"variant": "without_dual_gating"}),
            "wo_depth": ("w/o depth", {"variant": "without_depth"}),
            "wo_cross_attention": ("w/o cross-attention", {"variant": "without_cross_attention"}),
            "full": ("full", {}),
        },
        *("dinov3", "dofa"),
    ),
    columns=_tasks("miou", only_at_paper=True),
    corner="Component",
    published=True,
)

TABLE5 = Layout(
    name="table5",
    title="gating of SpectralMoE (Tab. 5)",
    rows=_variants(
        {
            f"gating_{word}": (word.capitalize(), {"variant": f"gating_{word}"})
            for word in ("softmax", "gaussian", "laplace")
        },
        *("dinov3", "dofa"),
    ),
    columns=_tasks("miou", only_at_paper=True),
    corner="Gating",
    published=True,
)

TABLE6 = Layout(
    name="table6",
    title="experts per token of SpectralMoE (Tab. 6)",
    rows=_variants({f"topk_{k}": (f"k = {k}", {"variant": f"top_{k}"}) for k in (1, 2, 3, 4, 5)}, "dinov3"),
    columns=_tasks("miou", only_at_paper=True),
    corner="Top-k",
    published=True,
)

TABLE7 = Layout(
    name="table7",
    title="rank of the experts of SpectralMoE (Tab. 7)",
    rows=_variants({f"rank_{r}": (f"r = {r}", {"variant": f"rank_{r}"}) for r in (4, 8, 16, 32, 64)}, "dinov3"),
    columns=(_PARAMETERS, *_tasks("miou", "macc", only_at_paper=True)),
    corner="Rank",
    published=True,
)

FIG5 = Layout(
    name="fig5",
    title="number of experts of SpectralMoE (Fig. 5; its counts, task and backbone are our guess)",
    rows=_variants(
        {f"experts_{n}": (f"{n} experts", {"variant": f"experts_{n}"}) for n in (1, 2, 4, 6, 8, 10, 12)}, "dinov3"
    ),
    columns=(_PARAMETERS, Column(label=MSI["fbp_cs"], place=Place(task="fbp_cs"))),
    corner="Experts",
)

FIG8 = Layout(
    name="fig8",
    title="tokens per expert of SpectralMoE (Fig. 8; 50 is our guess; fewer at the mini scale, whose head is small)",
    rows=tuple(
        Row(
            label=f"{tokens} tokens",
            # the default is as many as the scale's head has queries: written out, it would be another trial
            place=Place(method="spectralmoe", options={} if tokens == default else {"tokens": tokens}),
            at=scale,
        )
        for scale, default, counts in (("paper", 100, (25, 50, 100, 150, 200, 250)), ("mini", 16, (4, 8, 16, 32)))
        for tokens in counts
    ),
    columns=tuple(
        Column(label=BACKBONES[backbone], place=Place(task="fbp_cs", backbone=backbone))
        for backbone in ("dinov3", "dofa")
    ),
    corner="Token length",
)

PAPER = (TABLE1, TABLE2, TABLE3, TABLE4, TABLE5, TABLE6, TABLE7, FIG5, FIG8)

"""The builders of StyleGAN2-ADA under their published names: those of StyleGAN2 with other defaults (spec 2).

Names, shapes and run-time arithmetic of unconditional networks are the same. The differences: labels are embedded and
normalised apart from the latents, the discriminator maps them and projects its features on the result, minibatch
stddev groups span the whole minibatch unless a network says otherwise, hidden mapping layers are as wide as w, and
there is no variable `lod`. `Network(name, func_name="training.networks.G_main", ...)` makes one; files that hold such
networks have states of version 5.
"""

from dnnlib.tflib.registry import register_builder
from training.discriminator import D_stylegan2
from training.generator import SUB_OPTIONS, TRUNCATION_OPTIONS, G_main
from training.mapping import G_mapping
from training.synthesis import G_synthesis_stylegan2

MODULE = "training.networks"
VERSION = 5

#: What ADA calls options of the label mapping of D, which StyleGAN2 has in the mapping network of G alone.
D_ALIASES = {f"mapping_{what}": f"label_map_{what}" for what in ("layers", "fmaps", "lrmul", "nonlinearity")}

# Options that say how to train, or belong to sibling networks, and that published files carry along.
_SIBLINGS = SUB_OPTIONS | {"dlatent_broadcast", "structure"}
_PUBLISHED = dict(module=MODULE, version=VERSION)

register_builder(
    G_main,
    forwards=SUB_OPTIONS,
    tolerates={"structure", "w_avg_beta"},
    name="G_main",
    defaults=dict(mapping_func=f"{MODULE}.G_mapping", synthesis_func=f"{MODULE}.G_synthesis", has_lod=False),
    **_PUBLISHED,
)
register_builder(
    G_mapping,
    tolerates=_SIBLINGS,
    name="G_mapping",
    defaults=dict(embed_labels=True, mapping_fmaps=None),
    **_PUBLISHED,
)
register_builder(G_synthesis_stylegan2, tolerates=_SIBLINGS | TRUNCATION_OPTIONS, name="G_synthesis", **_PUBLISHED)
register_builder(
    D_stylegan2,
    tolerates={"structure", "freeze_layers"},
    name="D_main",
    defaults=dict(project_labels=True, mbstd_group_size=None, mbstd_of_one=True),
    aliases=D_ALIASES,
    **_PUBLISHED,
)

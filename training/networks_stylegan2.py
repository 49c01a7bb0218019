"""The builders of StyleGAN2 under their published names, registered for `dnnlib.tflib.Network`."""

from dnnlib.tflib.registry import builder_options, refuse_builders, register_builder
from training.discriminator import D_stylegan2
from training.generator import SUB_OPTIONS, TRUNCATION_OPTIONS, G_main
from training.growing import D_stylegan, G_synthesis_stylegan_revised
from training.mapping import G_mapping
from training.surgery.states import FIRST_STYLEGAN, FIRST_STYLEGAN_REASON
from training.synthesis import G_synthesis_stylegan2

__all__ = [
    "D_stylegan",
    "D_stylegan2",
    "G_main",
    "G_mapping",
    "G_synthesis_stylegan2",
    "G_synthesis_stylegan_revised",
]

# Published files repeat the generator's options in its components, which read only their own.
_SIBLINGS = SUB_OPTIONS | {"dlatent_broadcast", "structure"}

_PUBLISHED = dict(module=__name__)

register_builder(G_main, forwards=SUB_OPTIONS | {"structure"}, marks={"lod"}, **_PUBLISHED)
register_builder(G_mapping, tolerates=_SIBLINGS, marks={"LabelConcat"}, **_PUBLISHED)
register_builder(G_synthesis_stylegan2, tolerates=_SIBLINGS | TRUNCATION_OPTIONS, **_PUBLISHED)
register_builder(D_stylegan2, tolerates={"structure"}, **_PUBLISHED)

# Networks of progressive growing have fewer options; one that they would ignore says that they are something else.
_OF_MAPPING = builder_options(G_mapping) | {"dlatent_broadcast", "structure"}
register_builder(G_synthesis_stylegan_revised, tolerates=_OF_MAPPING | TRUNCATION_OPTIONS, **_PUBLISHED)
register_builder(D_stylegan, tolerates={"structure"}, **_PUBLISHED)

refuse_builders(FIRST_STYLEGAN, FIRST_STYLEGAN_REASON)

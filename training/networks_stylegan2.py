"""The builders of StyleGAN2 under their published names, registered for `dnnlib.tflib.Network`."""

from dnnlib.tflib.registry import register_builder
from training.discriminator import D_stylegan2
from training.generator import SUB_OPTIONS, TRUNCATION_OPTIONS, G_main
from training.mapping import G_mapping
from training.synthesis import G_synthesis_stylegan2

__all__ = ["D_stylegan2", "G_main", "G_mapping", "G_synthesis_stylegan2"]

# Published files repeat the generator's options in its components, which read only their own.
_SIBLINGS = SUB_OPTIONS | {"dlatent_broadcast", "structure"}

_PUBLISHED = dict(module=__name__)

register_builder(G_main, forwards=SUB_OPTIONS, tolerates={"structure"}, marks={"lod"}, **_PUBLISHED)
register_builder(G_mapping, tolerates=_SIBLINGS, marks={"LabelConcat"}, **_PUBLISHED)
register_builder(G_synthesis_stylegan2, tolerates=_SIBLINGS | TRUNCATION_OPTIONS, **_PUBLISHED)
register_builder(D_stylegan2, tolerates={"structure"}, **_PUBLISHED)

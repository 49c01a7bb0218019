"""Which networks are built here, told from a state without TensorFlow. All others are data that is carried along."""

from __future__ import annotations

from dnnlib.snapshot import NetworkState

BUILDERS = frozenset(
    ("G_main", "G_mapping", "G_synthesis", "G_synthesis_stylegan2", "G_synthesis_stylegan_revised")
    + ("D_main", "D_stylegan", "D_stylegan2")
)
_NAMES = """
    architecture attention_resolution base_shape components conv_clamp data_format demodulate dlatent_avg_beta
    dlatent_broadcast dlatent_size embed_labels fmap_base fmap_const fmap_decay fmap_explicit fmap_max fmap_min
    fp16_4x4 fp16_dtype freeze_layers fused_modconv has_lod is_template_graph is_training is_validation label_fmaps
    label_map_fmaps label_map_layers label_map_lrmul label_map_nonlinearity label_size latent_size lod_in
    mapping_fmaps mapping_func mapping_layers mapping_lrmul mapping_nonlinearity mbstd_group_size mbstd_num_features
    mbstd_of_one noconst nonlinearity normalize_latents num_channels num_fp16_res project_labels randomize_noise
    rectify_latents resample_kernel resolution return_dlatents rng score_max spectral_norm structure
    style_mixing_prob synthesis_func truncation_cutoff truncation_cutoff_val truncation_psi truncation_psi_val
    use_noise use_spectral_norm w_avg_beta w_avg_sink
"""
#: Options of any of them.
OPTIONS = frozenset(_NAMES.split())


def why_unknown(state: NetworkState) -> str | None:
    """Why nobody here builds a network, one sentence; None if its builder and options are known."""
    if state.unknown:
        return state.unknown
    builder = state["build_func_name"].rsplit(".", 1)[-1]
    if builder not in BUILDERS:
        return f"unknown network builder {builder!r}"
    options = [key for key in state["static_kwargs"] if key not in OPTIONS]
    if options:
        return f"network {state['name']!r} ({builder}): unknown option {options[0]!r}"
    return next(filter(None, map(why_unknown, state.get("components", {}).values())), None)

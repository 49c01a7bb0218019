"""Folders under the names that scripts written for StyleGAN ask for: `import config`. Nothing here reads them itself.

A run's configuration is in `training.config`.
"""

from dnnlib import make_cache_dir_path

#: Where scripts put pictures and videos, relative to where they are started.
result_dir = "results"
#: Where data sets are looked for.
data_dir = "datasets"
#: For `dnnlib.util.open_url(url, cache_dir=config.cache_dir)`; the same as its default.
cache_dir = make_cache_dir_path("downloads")

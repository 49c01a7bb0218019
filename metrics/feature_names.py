"""Names of the feature networks, here alone so that metrics can be listed and checked without loading TensorFlow."""

INCEPTION = "inception-2015-12-05"
EFFNET = "effnet_lite0"
VGG16 = "vgg16"
VGG16_LPIPS = "vgg16_lpips"

NAMES = (INCEPTION, EFFNET, VGG16, VGG16_LPIPS)

#: Shorter names that a person may write.
ALIASES = {"inception": INCEPTION, "effnet": EFFNET, "lpips": VGG16_LPIPS}

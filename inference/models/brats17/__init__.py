"""The nine networks that took second place at BraTS 2017, from their published files to a mask.

Wang et al., Automatic brain tumor segmentation using cascaded anisotropic convolutional neural networks,
arXiv:1709.00382. The weights are those of github.com/taigw/brats17 (BSD-3-Clause); the code here is our own.
"""

"""Exact gradients at little memory. After Matsubara, Miyatake and Yaguchi 2021, arXiv 2102.09750."""

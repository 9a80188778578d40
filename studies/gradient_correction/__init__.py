"""Raw and corrected gradients of time-dependent parameters, after Xu, Chen, Li, arXiv 2306.02192."""

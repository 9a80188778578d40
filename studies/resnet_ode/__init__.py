"""Do residual neural networks discretize neural ODEs? After Sander, Ablin and Peyre 2022, arXiv 2205.14612."""

"""When is a neural ODE an ODE? After Ott, Katiyar, Hennig, Tiemann, ResNet After All?, arXiv 2007.15386."""

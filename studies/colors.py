"""The colors of the figures."""

RED, BLUE, GREEN, ORANGE, PURPLE, GREY = "#d1495b", "#2e5eaa", "#2a9d6f", "#e08e2b", "#8b5fbf", "#8a8f98"
INK = "#1f2430"

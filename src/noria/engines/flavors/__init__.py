"""How the models of each library are saved, loaded and asked."""

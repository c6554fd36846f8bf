"""Other tools' wires, spoken at Noria's own address. What arrives becomes facts like anything else."""

"""MLflow's REST interface: its clients work unchanged with `MLFLOW_TRACKING_URI` set to Noria's address."""

"""How good the model is, how sure that is, and the report that says so. No TensorFlow in here."""

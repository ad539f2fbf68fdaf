"""What the scripts do, one module a command: a configuration and a run folder in, a result out."""

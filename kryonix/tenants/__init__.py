"""Running the program for a stack: by Pulumi's Automation API, or by the local engine where there is no CLI."""

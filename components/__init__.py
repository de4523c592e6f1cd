"""The Pulumi side: ComponentResources and dynamic resources, one per file."""

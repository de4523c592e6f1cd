import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // An unhandled rejection fails the run.
    dangerouslyIgnoreUnhandledErrors: false,
    projects: [
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"] } },
      {
        test: {
          name: "integration",
          include: ["test/integration/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});

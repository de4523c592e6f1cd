import { expect, test } from "vitest";
import { parseCatalog } from "../../src/catalog.ts";
import { ConfigurationError } from "../../src/errors.ts";
import { CATALOG } from "../../src/modules.ts";

const own = () => ({
  modules: {
    shop: {
      actions: ["orders.create"],
      retention: "24h",
      priority_levels: 3,
      mobile_priority: true,
      mobile_expiry: "1h",
      ai_routing: false,
      priority_lanes: { "orders.create": ["high"] },
    } as Record<string, unknown>,
  },
  plans: {
    basic: {
      limits: { max_connections: 10, max_queues: 50, max_exchanges: 10, max_channels: 100 },
      scaling: { max_consumers_per_queue: 2, scale_up_threshold: 100, scale_down_threshold: 10, max_queue_depth: 1000 },
    },
  },
  retry: { strategy: "native", first_delay: "1s", max_delay: "1m", limit: 3 },
  mobile: { max_length: 50_000 },
  dead_letters: { retention: "24h", max_length: 10_000 },
});

test("a catalog of one's own has the package's form", () => {
  const catalog = parseCatalog(own());
  expect(catalog.modules.shop).toMatchObject({ retention: 86_400_000, mobileExpiry: 3_600_000, defaultPriority: 5 });
  expect(catalog.plans.basic?.scaling.maxQueueBytes).toBe(67_108_864);
  expect(Object.keys(catalog)).toEqual(Object.keys(CATALOG));
});

test.each([
  ["retention", "24", 'modules.shop.retention: "24" is not valid (a whole number above 0 and s, m, h or d'],
  ["actions", ["dlq.read"], "modules.shop.actions"],
  ["mobile_priority", "yes", "modules.shop.mobile_priority"],
  ["default_priority", 11, "modules.shop.default_priority"],
  ["priority_lanes", { "orders.delete": ["high"] }, "an action of the module"],
  ["priority_lanes", { "orders.create": ["high", "medium", "low"] }, "one or two different priorities"],
])("a wrong %s (%j) is refused with its path", (name, value, text) => {
  const content = own();
  content.modules.shop[name] = value;
  expect(() => parseCatalog(content)).toThrow(ConfigurationError);
  expect(() => parseCatalog(content)).toThrow(text);
});

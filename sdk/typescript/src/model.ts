/** The type of a message's data, given as a function or as the schema of a validation library. */

import { typeName } from "./checks.ts";
import { ConfigurationError } from "./errors.ts";

/** A schema of a library that follows the Standard Schema, as zod, valibot and arktype do. */
export interface StandardSchema<Data> {
  readonly "~standard": {
    readonly validate: (value: unknown) => StandardResult<Data> | Promise<StandardResult<Data>>;
  };
}

type StandardResult<Data> =
  | { readonly value: Data; readonly issues?: undefined }
  | { readonly issues: readonly StandardIssue[] };

interface StandardIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/**
 * What makes typed data of JSON: a function that returns it, or throws if the data does not fit; or a schema of zod,
 * valibot, arktype or another library that follows the Standard Schema.
 */
export type Model<Data> = ((data: unknown) => Data) | StandardSchema<Data>;

/** Problems of one message that are named. */
const MAX_PROBLEMS = 3;

/** Return the function of a model. Throws ConfigurationError for anything else. */
export function modelOf<Data>(model: Model<Data> | undefined): ((data: unknown) => Data) | undefined {
  if (model === undefined) return undefined;
  const standard = (model as Partial<StandardSchema<Data>> | null)?.["~standard"];
  if (typeof standard?.validate === "function") return (data) => fitted(standard.validate(data));
  if (typeof model === "function" && !/^class\b/.test(Function.prototype.toString.call(model))) return model;
  const remedy = "Pass a function of the data, or a schema of zod, valibot or arktype";
  throw new ConfigurationError(`model: ${typeName(model)} cannot validate data`, { remedy });
}

function fitted<Data>(result: StandardResult<Data> | Promise<StandardResult<Data>>): Data {
  if (result instanceof Promise) {
    result.catch(() => undefined);
    throw new TypeError("the schema is asynchronous; a message is validated at once");
  }
  if (result.issues === undefined) return result.value;
  const { issues } = result;
  const problems = issues.slice(0, MAX_PROBLEMS).map((issue) => `${pathOf(issue)}: ${issue.message.slice(0, 200)}`);
  if (issues.length > MAX_PROBLEMS) problems.push(`${issues.length - MAX_PROBLEMS} more`);
  throw new TypeError(problems.join("; "));
}

function pathOf({ path = [] }: StandardIssue): string {
  const steps = path.map((step) => (typeof step === "object" ? step.key : step));
  return (
    steps
      .map((step) => (typeof step === "number" ? `[${step}]` : `.${String(step)}`))
      .join("")
      .replace(/^\./, "") || "the data"
  );
}

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
  if (typeof standard?.validate === "function") return (data) => fitted(atOnce("schema", standard.validate(data)));
  const remedy = "Pass a function of the data, or a schema of zod, valibot or arktype";
  if (typeof model === "function" && !/^(class|async)\b/.test(Function.prototype.toString.call(model))) {
    return (data) => atOnce("model", model(data));
  }
  const what = typeof model === "function" ? "a class or an async function" : typeName(model);
  throw new ConfigurationError(`model: ${what} cannot validate data`, { remedy });
}

/** Return a result that is there. Throws a TypeError for a promise: a message is validated before its handler. */
function atOnce<Result>(what: string, result: Result | Promise<Result>): Result {
  if (!(result instanceof Promise)) return result;
  result.catch(() => undefined);
  throw new TypeError(`the ${what} is asynchronous; a message is validated at once`);
}

function fitted<Data>(result: StandardResult<Data>): Data {
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

import AjvCompiler from '@fastify/ajv-compiler';
import SerializerSelector, { type SerializerFactory } from '@fastify/fast-json-stringify-compiler';

// What reads requests and writes answers is compiled from their schemas. Of a hundred routes that takes a third of a second, and memory:
// each is compiled when it is first used. The OpenAPI document is made with all of them compiled, so that a test finds one that cannot be.

/** What Ajv makes of a schema, as Fastify uses it. */
interface Validate {
  (input: unknown): unknown;
  errors?: unknown;
}
type BuildValidator = (schemas: unknown, options: unknown) => (definition: unknown) => Validate;

const buildValidators = AjvCompiler() as unknown as BuildValidator;
const buildSerializers = SerializerSelector();

const buildValidator: BuildValidator = (schemas, options) => {
  const build = buildValidators(schemas, options);
  return (definition) => {
    let compiled: Validate | undefined;
    const validate: Validate = (input) => {
      compiled ??= build(definition);
      const isValid = compiled(input);
      // Where Fastify looks for what is wrong.
      validate.errors = compiled.errors;
      return isValid;
    };
    return validate;
  };
};

const buildSerializer: SerializerFactory = (schemas, options) => {
  const build = buildSerializers(schemas, options);
  return (definition) => {
    let compiled: ReturnType<typeof build> | undefined;
    return (answer) => {
      compiled ??= build(definition);
      return compiled(answer);
    };
  };
};

/** Settings of Fastify. Nothing that was sent is changed to fit. */
export const lazySchemas = {
  ajv: {
    // Bodies are bounded, and so are the faults that are told. What a fault is about is looked at, and never quoted.
    customOptions: { removeAdditional: false, coerceTypes: false, allErrors: true, verbose: true },
  },
  schemaController: {
    compilersFactory: { buildValidator: buildValidator as ReturnType<typeof AjvCompiler>, buildSerializer },
  },
} as const;

// The part of OpenAPI that our CRDs use, and which widget shows what.

export interface Schema {
  type?: string;
  description?: string;
  enum?: (string | null)[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  additionalProperties?: Schema | boolean;
  minimum?: number;
  maximum?: number;
  maxLength?: number;
  "x-kubernetes-preserve-unknown-fields"?: boolean;
}

export type Widget = "text" | "choice" | "number" | "switch" | "words" | "choices" | "list" | "object" | "map" | "yaml";

const SCALARS = ["string", "integer", "number", "boolean"];

/** The widget for a schema; `yaml` for what the form does not know, so that nothing is out of reach. */
export function widgetOf(schema: Schema | undefined): Widget {
  if (!schema || schema["x-kubernetes-preserve-unknown-fields"]) return "yaml";
  switch (schema.type) {
    case "string":
      return schema.enum ? "choice" : "text";
    case "integer":
      return "number";
    case "boolean":
      return "switch";
    case "array": {
      if (schema.items?.enum) return "choices";
      if (schema.items?.type === "object" && widgetOf(schema.items) === "object") return "list";
      return SCALARS.includes(schema.items?.type ?? "") ? "words" : "yaml";
    }
    case "object": {
      if (schema.properties) return "object";
      const values = schema.additionalProperties;
      if (typeof values === "object" && values.type === "string") return "map";
      // An object without properties is a choice that has nothing to say, as `anonymous: {}`.
      return values === undefined || values === false ? "object" : "yaml";
    }
    default:
      return "yaml";
  }
}

/** The first content of a new value. */
export function blank(schema: Schema): unknown {
  switch (widgetOf(schema)) {
    case "switch":
      return true;
    case "number":
      return schema.minimum ?? 0;
    case "choice":
      return schema.enum?.find((each) => each !== null) ?? "";
    case "words":
    case "choices":
      return [];
    case "list":
      return [blankObject(schema.items ?? {})];
    case "object":
      return blankObject(schema);
    case "map":
      return {};
    case "yaml":
      return schema.type === "array" ? [] : {};
    default:
      return "";
  }
}

function blankObject(schema: Schema): Record<string, unknown> {
  const required = schema.required ?? [];
  return Object.fromEntries(required.map((name) => [name, blank(schema.properties?.[name] ?? {})]));
}

/** `clockSkewSeconds` as `Clock skew seconds`. */
export function titleOf(name: string): string {
  const words = name.replace(/([a-z0-9])([A-Z])/g, "$1 $2");
  return (
    words.charAt(0).toUpperCase() +
    words.slice(1).replace(/ ([A-Z])(?=[a-z])/g, (_, letter: string) => ` ${letter.toLowerCase()}`)
  );
}

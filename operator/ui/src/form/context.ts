// The things that all fields of a form share.
import { createContext } from "preact";
import type { Finding } from "../lib/types";

export interface FormContext {
  text: string;
  readOnly: boolean;
  findings: Map<string, Finding[]>;
  change: (text: string) => void;
}

export const Editing = createContext<FormContext>({
  text: "",
  readOnly: true,
  findings: new Map(),
  change: () => undefined,
});

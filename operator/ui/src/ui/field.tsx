// Form controls with their label, help and error joined to them.
import type { ComponentChildren, InputHTMLAttributes } from "preact";
import type { Ref } from "preact";
import { useId } from "preact/hooks";

interface Frame {
  label: string;
  help?: string | undefined;
  error?: string | undefined;
  required?: boolean;
}

function described(id: string, { help, error }: Frame): string | undefined {
  return [help && `${id}-help`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
}

function Wrap({ id, frame, children }: { id: string; frame: Frame; children: ComponentChildren }) {
  return (
    <div class={frame.error ? "field wrong" : "field"}>
      <label for={id}>
        {frame.label}
        {frame.required && (
          <span class="required" aria-hidden="true">
            {" "}
            *
          </span>
        )}
      </label>
      {children}
      {frame.error && (
        <p class="error" id={`${id}-error`}>
          {frame.error}
        </p>
      )}
      {frame.help && (
        <p class="help" id={`${id}-help`}>
          {frame.help}
        </p>
      )}
    </div>
  );
}

interface TextProps extends Frame {
  value: string;
  onInput: (value: string) => void;
  type?: "text" | "password" | "search" | "number" | "datetime-local";
  placeholder?: string;
  mono?: boolean;
  autocomplete?: string;
  readOnly?: boolean;
  attributes?: InputHTMLAttributes<HTMLInputElement>;
}

export function TextField({ value, onInput, type = "text", mono, attributes, ...rest }: TextProps) {
  const id = useId();
  // One input for all types: Preact types the attributes of each type apart, which this component joins again.
  const input = {
    id,
    type,
    value,
    class: mono ? "mono" : undefined,
    placeholder: rest.placeholder,
    required: rest.required,
    readOnly: rest.readOnly,
    autocomplete: rest.autocomplete ?? "off",
    spellcheck: false,
    "aria-describedby": described(id, rest),
    "aria-invalid": rest.error ? "true" : undefined,
    ...attributes,
    onInput: (event: { currentTarget: HTMLInputElement }) => onInput(event.currentTarget.value),
  } as InputHTMLAttributes<HTMLInputElement>;
  return (
    <Wrap id={attributes?.id ? String(attributes.id) : id} frame={rest}>
      <input {...input} />
    </Wrap>
  );
}

interface AreaProps extends Frame {
  value: string;
  onInput: (value: string) => void;
  rows?: number;
  readOnly?: boolean;
  placeholder?: string;
}

export function AreaField({ value, onInput, rows = 4, ...rest }: AreaProps) {
  const id = useId();
  return (
    <Wrap id={id} frame={rest}>
      <textarea
        id={id}
        class="mono"
        rows={rows}
        value={value}
        required={rest.required}
        readOnly={rest.readOnly}
        spellcheck={false}
        autocomplete="off"
        placeholder={rest.placeholder}
        aria-describedby={described(id, rest)}
        aria-invalid={rest.error ? "true" : undefined}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
    </Wrap>
  );
}

interface SelectProps extends Frame {
  value: string;
  onInput: (value: string) => void;
  options: (string | [value: string, text: string])[];
  disabled?: boolean;
}

export function SelectField({ value, onInput, options, disabled, ...rest }: SelectProps) {
  const id = useId();
  return (
    <Wrap id={id} frame={rest}>
      <select
        id={id}
        value={value}
        disabled={disabled}
        aria-describedby={described(id, rest)}
        aria-invalid={rest.error ? "true" : undefined}
        onInput={(event) => onInput(event.currentTarget.value)}
      >
        {options.map((each) => {
          const [key, text] = typeof each === "string" ? [each, each] : each;
          return (
            <option key={key} value={key} selected={key === value}>
              {text}
            </option>
          );
        })}
      </select>
    </Wrap>
  );
}

/** A password. It is in its input alone: the form reads it when it is sent, and empties the input. */
export function PasswordField({ input, ...frame }: Frame & { input: Ref<HTMLInputElement> }) {
  const id = useId();
  return (
    <Wrap id={id} frame={frame}>
      <input
        id={id}
        ref={input}
        type="password"
        required={frame.required}
        autocomplete="off"
        spellcheck={false}
        aria-describedby={described(id, frame)}
        aria-invalid={frame.error ? "true" : undefined}
      />
    </Wrap>
  );
}

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { readConfig } from '../ca/config/config.ts';
import { removeScratch, scratch } from './support/harness.ts';

// The Helm chart, as far as it can be read without Helm and a cluster: its templates use few forms, which are filled in here, and what comes out
// is YAML of the shape that Kubernetes wants.

const chart = new URL('../packaging/helm/warifu/', import.meta.url).pathname;
const fileOf = (name: string): string => readFileSync(join(chart, name), 'utf8');
const defaults = parse(fileOf('values.yaml')) as Values;
const templates = readdirSync(join(chart, 'templates')).filter((name) => name.endsWith('.yaml'));
afterAll(removeScratch);

type Values = Record<string, unknown> & {
  readonly config: Record<string, Record<string, unknown>>;
  readonly image: Record<string, string>;
};
interface Manifest {
  readonly kind: string;
  readonly apiVersion: string;
  readonly metadata: { readonly name: string; readonly labels?: Record<string, string> };
  readonly data?: Record<string, string>;
  readonly spec: Record<string, unknown>;
}
interface Container {
  readonly name: string;
  readonly securityContext: object;
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly volumeMounts: readonly { readonly name: string }[];
  readonly env?: readonly { readonly name: string; readonly value: string }[];
}

/** A value by its path; a path that the chart's values do not have is a fault. */
function valueAt(path: string, scope: object): unknown {
  return path
    .split('.')
    .filter((name) => name !== '')
    .reduce<unknown>((value, name) => {
      if (typeof value !== 'object' || value === null || !(name in value))
        throw new Error(`no value ${path}`);
      return (value as Record<string, unknown>)[name];
    }, scope);
}

/** Fills in what the templates use of Helm's language, and refuses the rest of it. */
function render(template: string, values: Values): string {
  const scope = { Values: values, Release: { Name: 'ca' } };
  const say = (expression: string, dot: unknown): string => {
    const [path = '', ...filters] = expression.split(' | ');
    let value = path === '.' ? dot : valueAt(path, scope);
    for (const filter of filters) {
      if (filter !== 'toJson') throw new Error(`unknown filter ${filter}`);
      value = JSON.stringify(value);
    }
    return String(value);
  };
  let text = template;
  const holds = (value: unknown): boolean => (Array.isArray(value) ? value.length > 0 : Boolean(value));
  text = text.replaceAll(
    /\n?[ ]*\{\{- range (\S+) \}\}(.*?)\n[ ]*\{\{- end \}\}/gs,
    (_, path: string, body: string) =>
      (valueAt(path, scope) as unknown[])
        .map((dot) => body.replaceAll(/\{\{ (\.(?: \| \w+)*) \}\}/g, (_all, each: string) => say(each, dot)))
        .join(''),
  );
  text = text.replaceAll(
    /\n?[ ]*\{\{- if (\S+) \}\}(.*?)\n\{\{- end \}\}/gs,
    (_, path: string, body: string) => (holds(valueAt(path, scope)) ? body : ''),
  );
  text = text.replaceAll(/\{\{ (\.\S+(?: \| \w+)*) \}\}/g, (_, expression: string) =>
    say(expression, undefined),
  );
  if (/\{\{/.test(text)) throw new Error(`not filled in: ${/\{\{.*/.exec(text)?.[0]}`);
  return text;
}

const rendered = (values: Values = defaults): Manifest[] =>
  templates.flatMap((name) =>
    parseAllDocuments(render(fileOf(`templates/${name}`), values))
      .map((document) => {
        expect(document.errors, name).toEqual([]);
        return document.toJS() as Manifest | null;
      })
      .filter((manifest) => manifest !== null),
  );
const ofKind = (kind: string, values?: Values): Manifest[] =>
  rendered(values).filter((each) => each.kind === kind);
const setOf = (values?: Values): Manifest => {
  const [set, ...others] = ofKind('StatefulSet', values);
  if (!set || others.length > 0) throw new Error('one StatefulSet is expected');
  return set;
};
function podOf(values?: Values) {
  const { template } = setOf(values).spec as { template: { spec: unknown } };
  return template.spec as {
    readonly initContainers: readonly Container[];
    readonly containers: readonly Container[];
    readonly volumes: readonly { readonly name: string }[];
    readonly securityContext: object;
    readonly automountServiceAccountToken: boolean;
  };
}

describe('the Helm chart', () => {
  it('has the version of the project', () => {
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    expect(parse(fileOf('Chart.yaml'))).toMatchObject({
      apiVersion: 'v2',
      name: 'warifu',
      version,
      appVersion: version,
    });
  });

  it('makes one pod that writes, and services of the API, of OCSP and CRLs, and of metrics', () => {
    expect(
      rendered()
        .map(({ kind, metadata }) => `${kind} ${metadata.name}`)
        .sort(),
    ).toEqual([
      'ConfigMap ca-config',
      'Service ca-api',
      'Service ca-metrics',
      'Service ca-status',
      'StatefulSet ca',
    ]);
    expect(setOf().spec.replicas).toBe(1);
    expect(ofKind('ServiceMonitor', { ...defaults, serviceMonitor: true })).toHaveLength(1);
  });

  it('configures the service with what the service itself takes', () => {
    const folder = scratch();
    mkdirSync(join(folder, 'data'));
    const file = join(folder, 'warifu.json');
    writeFileSync(file, ofKind('ConfigMap')[0]?.data?.['warifu.json'] ?? '');
    const config = readConfig(file);
    expect(config.api.host).toBe('0.0.0.0');
    expect(config.metrics?.port).toBe(9464);
  });

  it('serves at the ports that are configured', () => {
    const [main] = podOf().containers;
    const ports = Object.fromEntries(
      (main?.ports ?? []).map(({ name, containerPort }) => [name, containerPort]),
    );
    for (const name of ['api', 'ocsp', 'crl', 'metrics'])
      expect(ports[name]).toBe(defaults.config[name]?.port);
  });

  it('has no right that the service does not need: no root, no writable root, no token of the cluster', () => {
    const pod = podOf({ ...defaults, ceremony: true });
    expect(pod.securityContext).toMatchObject({
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    expect(pod.automountServiceAccountToken).toBe(false);
    for (const { securityContext } of [...pod.initContainers, ...pod.containers])
      expect(securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
  });

  it('performs the ceremony only where that is said', () => {
    expect(podOf().initContainers.map(({ name }) => name)).toEqual(['configure']);
    expect(podOf({ ...defaults, ceremony: true }).initContainers.map(({ name }) => name)).toEqual([
      'configure',
      'ceremony',
    ]);
  });

  it('takes a vendor’s module, and mounts only volumes that there are', () => {
    const pkcs11 = {
      module: '/vendor/lib.so',
      volumes: [{ name: 'vendor', hostPath: { path: '/opt/vendor' } }],
      volumeMounts: [{ name: 'vendor', mountPath: '/vendor', readOnly: true }],
    };
    const pod = podOf({ ...defaults, pkcs11 });
    const [main] = pod.containers;
    expect(main?.env).toContainEqual({ name: 'WARIFU_PKCS11_MODULE', value: '/vendor/lib.so' });
    expect(main?.volumeMounts.map(({ name }) => name)).toEqual(['data', 'tmp', 'vendor']);
    // The volume of data is made by its claim.
    const there = [...pod.volumes.map(({ name }) => name), 'data'];
    for (const { volumeMounts } of [...pod.initContainers, ...pod.containers])
      for (const { name } of volumeMounts) expect(there).toContain(name);
  });

  it('selects with its services the pod that it makes', () => {
    const { template } = setOf().spec as { template: { metadata: { labels: object } } };
    for (const service of ofKind('Service'))
      expect(template.metadata.labels).toMatchObject(service.spec.selector as object);
  });
});

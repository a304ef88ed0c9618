import { resolve } from 'node:path';
import type { Logger } from 'pino';
import { WarningBoard } from '../../core/node/warnings.ts';
import { refuseUnreliable, systemClock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { sharedCall } from '../../core/runtime/shared-call.ts';
import { AccessLog } from '../../store/accesses/access-log.ts';
import type { OperatorCommand } from '../../store/api/outcome.ts';
import type { TimeCorrection } from '../../store/api/time-store.ts';
import { RecordRetention } from '../../store/rules/retention-store.ts';
import { latestRecordedMs, rememberHead } from '../../store/rules/token-memory.ts';
import { readGiven } from '../config/config.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { ClientUses } from '../issue/client-uses.ts';
import { EvidenceChecker } from '../request/evidence/evidence.ts';
import { RequestChecker } from '../request/request-checker.ts';
import { RequestNumbers, shareOf } from '../request/request-numbers.ts';
import { lookupKey, replyKey } from '../sealing/sealer.ts';
import type { Node } from './node.ts';
import { certifyClient } from './operations.ts';
import { certifyResponder } from './own-certificates.ts';
import { fitConfiguration } from './production.ts';
import { openAuthorities, openOperations } from './wiring.ts';

/** Takes the record's time back to the machine's. What is written meanwhile is dated by the record still. */
async function takeTimeBack(
  node: Node,
  requestNumbers: RequestNumbers,
  command: OperatorCommand & Pick<TimeCorrection, 'correctionId'>,
): Promise<TimeCorrection> {
  const { clock, time, database, caToken } = node;
  const fromMs = clock.wallMs();
  const undo = clock.takeBack();
  const toMs = clock.wallMs();
  let approved: TimeCorrection;
  try {
    approved = await time.approve({ ...command, fromMs, toMs });
  } catch (error) {
    undo();
    throw error;
  }
  requestNumbers.takeBack({ fromMs, toMs });
  await rememberHead(database, caToken.memory(), clock.wallMs());
  return approved;
}

/** How old an answer about the health of the service may be. */
const healthFreshMs = 200;

/** Whether record, tokens and clock can be used. An operation of a token takes milliseconds, and what supervises a service asks often. */
function healthOf(node: Node): CertificateAuthority['checkHealth'] {
  const check: CertificateAuthority['checkHealth'] = async () => {
    try {
      await node.caToken.memory().recall('probe');
      await node.ocspToken.memory().recall('probe');
      await node.database.probe();
      refuseUnreliable(node.clock);
      return node.pool.states().map(({ label, up }) => ({ label, up }));
    } catch (error) {
      if (error instanceof PkiError && error.code === 'token-unavailable') {
        await node.gate.heal();
        await node.pool.heal();
      }
      throw error;
    }
  };
  return sharedCall(check, { freshMs: healthFreshMs, clock: systemClock });
}

/** The CA of an opened node, ready to serve. Its `requestChecker`, `evidence` and `accesses` are to be closed. */
export async function openCertificateAuthority(node: Node, logger?: Logger): Promise<CertificateAuthority> {
  const { store, operations, outbox, preferences, sealer, config, clock } = node;
  const authorities = await openAuthorities(node);
  // All that a revocation needs: it must not wait for a token that is slow, or fail with one that is down.
  await Promise.all([sealer.load(lookupKey, replyKey), node.feed.loadEpochKeys()]);
  node.database.sealOutcomesWith(await sealer.sealing(replyKey));
  const { checkThreads, debianBlocklists, primeModuli } = config.issuing;
  const requestChecker = new RequestChecker({
    threads: checkThreads,
    debianBlocklists: debianBlocklists.map((file) => resolve(node.layout.folder, file)),
    primeModuli,
  });
  const evidence = new EvidenceChecker({ config, folder: node.layout.folder, clock });
  const signerOf = (name: string, mass = false) => {
    const { signer, massSigner } = authorities.byName(name);
    return mass ? massSigner : signer;
  };
  const requestNumbers = new RequestNumbers(clock, await latestRecordedMs(node.database), {
    takenBack: await node.time.corrections(),
    share: () => shareOf(node.nodes),
  });
  const certify: CertificateAuthority['certifyResponder'] = async (name, publicKey, by) => {
    await certifyResponder(node, authorities.byName(name), publicKey, by);
  };
  return {
    authorities,
    signerOf,
    requestChecker,
    evidence,
    store,
    operations,
    nodes: node.nodes,
    outbox,
    indexSnapshot: node.layout.indexSnapshot,
    retention: new RecordRetention({ database: node.database, clock }),
    preferences,
    holders: node.holders,
    clients: node.clients,
    desks: node.desks,
    verifiers: node.verifiers,
    consents: node.consents,
    watches: node.watches,
    intakes: node.intakes,
    proposals: node.proposals,
    accesses: new AccessLog({
      ...{ file: node.layout.accesses, auditKey: node.auditKey },
      ...(logger ? { logger } : {}),
    }),
    time: node.time,
    takeTimeBack: (command) => takeTimeBack(node, requestNumbers, command),
    uses: new ClientUses(node.clients),
    warnings: new WarningBoard(),
    certifyClient: async (commonName, publicKey) =>
      certifyClient(await openOperations(node), commonName, publicKey),
    sealer,
    encodings: node.encodings,
    requestNumbers,
    config,
    configuration: { running: readGiven(node.layout.config), edited: () => fitConfiguration(node.layout) },
    clock,
    machineClock: clock.machine,
    checkHealth: healthOf(node),
    certifyResponder: certify,
  };
}
